"""``python -m rectified_lpjepa``."""

from rectified_lpjepa.main import main

if __name__ == "__main__":
    main()
