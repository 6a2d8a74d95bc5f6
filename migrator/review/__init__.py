"""A migration as a reviewer reads it: Markdown for a pull request, or one page."""

from migrator.review.gather import review
from migrator.review.markdown import as_markdown
from migrator.review.output import refuse, write
from migrator.review.page import as_html

__all__ = ["as_html", "as_markdown", "refuse", "review", "write"]
