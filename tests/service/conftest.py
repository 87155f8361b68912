"""The guests that servers are tested with."""

from tests.server.conftest import guests as guests
from tests.server.conftest import loop as loop
