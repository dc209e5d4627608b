"""What every room leans on: generators, ranks, schedules, wrappers, patterns, files, text."""
