"""What mkdocs calls: adds the pages that are made from the code, and joins links and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import api
import commands
import estimators
import keys
import places
import rooms
from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

MADE = {
    "commands.md": commands.page,
    "keys.md": keys.page,
    "imports.md": rooms.page,
    "api/estimators.md": estimators.page,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what docs/ does not hold."""
    made = {at: page() for at, page in MADE.items()} | api.pages()
    for at, what in {**places.brought(), **made}.items():
        if isinstance(what, Path):
            files.append(File.generated(config, at, abs_src_path=str(what)))
        else:
            files.append(File.generated(config, at, content=what))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links out of docs/ lead to the site's pages, figures open; files are named, rooms drawn."""
    at = page.file.src_uri
    if page.file.generated_by is None:
        markdown = places.relinked(markdown, (places.DOCS / at).parent, at)
    return rooms.drawn(rooms.named(places.opened(markdown)))
