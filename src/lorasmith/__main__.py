"""``python -m lorasmith`` and ``accelerate launch -m lorasmith``."""

from lorasmith.cli.main import main

if __name__ == "__main__":
    main()
