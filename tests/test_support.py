"""What tests stand on."""

from tests.support.processes import spawned

LINES = 3_000
PRINTS = ("-c", f"for i in range({LINES}): print(i, flush=True)")


def test_output_is_read_while_it_is_written() -> None:
    """Both use one file: a reader that goes back to its start would have the next line written over the first."""
    with spawned(program=PRINTS) as process:
        while process.popen.poll() is None:
            process.output  # noqa: B018 - reading is what is tested
        assert process.output.split() == [str(i) for i in range(LINES)]
