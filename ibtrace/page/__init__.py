"""A report of traces as one HTML file: it reads a `TraceLike`, as the plots do."""

from ibtrace.page.document import page as page
from ibtrace.page.document import write as write
