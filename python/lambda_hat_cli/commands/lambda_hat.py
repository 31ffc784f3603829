"""The lambda-hat command: what a person calls beside the pipeline."""

import click

from lambda_hat_cli.commands import watch


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Local learning coefficients of trained networks, with intervals and verdicts."""


main.add_command(watch.main)

if __name__ == "__main__":
    main(prog_name="lambda-hat")
