"""QR codes as SVG, for what a person would else type from one screen into another."""

from __future__ import annotations

import segno
from markupsafe import Markup

# The bright frame that readers need around a code, in modules (ISO/IEC 18004).
_QUIET = 4


def qr_code(text: str, label: str) -> Markup:
    """A text, at most a few hundred characters, as a QR code; `label` says in words what it holds."""
    matrix = segno.make(text, error="m", micro=False).matrix
    size = len(matrix) + 2 * _QUIET
    dark = "".join(f"M{x + _QUIET} {y + _QUIET}h1v1h-1z" for y, row in enumerate(matrix) for x, module in enumerate(row) if module)
    return Markup(
        '<svg class="qr" viewBox="0 0 {} {}" role="img" aria-label="{}" focusable="false"><rect width="100%" height="100%"/><path d="{}"/></svg>'
    ).format(size, size, label, dark)
