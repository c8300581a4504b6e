"""Quote assertions about arguments that fail without a text."""

import re
import traceback


def failed_assertion(error: AssertionError) -> str | None:
    """Return the assertion of mmcv or mmengine that failed without a text, such as ``assert 0 <= prob <= 1``.

    Returns ``None`` for assertions of other packages. The error may come from a worker of a data loader.
    """
    text = ''.join(traceback.format_exception(error))
    places = re.findall(r'File "([^"]*)", line \d+, in .*\n +(.*)', text)
    found = re.search(r'\b(mmcv|mmengine)/.*', places[-1][0]) if places else None
    return f'{places[-1][1]} failed in {found[0]}' if found else None
