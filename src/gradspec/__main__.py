"""The command `python -m gradspec laws`: what each law asks, does not see, and alone catches."""

import argparse

from gradspec.properties.running.list_laws import format_laws


def main() -> None:
    parser = argparse.ArgumentParser("python -m gradspec")
    commands = parser.add_subparsers(required=True, metavar="command")
    commands.add_parser("laws", help="print what each law asks, does not see, and alone catches")
    parser.parse_args()
    print(format_laws())


if __name__ == "__main__":
    main()
