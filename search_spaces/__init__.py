"""What may be tried: the grammar of a space, the searches, the recipes. Plain data; no other room is known here."""

from search_spaces.grammar import Branch, Float, Int, Maybe, Pick
from search_spaces.recipes import recipe
from search_spaces.search import Search

__all__ = ["Branch", "Float", "Int", "Maybe", "Pick", "Search", "recipe"]
