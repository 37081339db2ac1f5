"""``python -m downscale`` is the command ``downscale``, for jobs and containers that name an interpreter."""

from downscale.cli.app import main

if __name__ == "__main__":
    main()
