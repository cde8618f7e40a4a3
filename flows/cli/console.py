"""Where commands write: results to standard output, everything else to standard error.

Text is printed as it is: a path may hold brackets and colons, which Rich would take for its markup and emoji. What has
markup of ours says ``markup=True``, and escapes what it puts in.
"""

from rich.console import Console

out = Console(markup=False, emoji=False)
err = Console(markup=False, emoji=False, stderr=True)
