"""Health check of a container: exit code 0 if a GET request of the address in the arguments returns status 200.

The image has neither curl nor wget, and importing more than the standard library would cost a second every time.
"""

import sys
import urllib.error
import urllib.request

TIMEOUT_S = 5.0


def healthy(url: str) -> bool:
    """Whether the address answers with status 200; proxies are not used."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return False


if __name__ == "__main__":
    sys.exit(not healthy(sys.argv[1]))
