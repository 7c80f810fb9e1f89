"""Renders the chart: run by the Python of the environment that has Helm, which is not the tests'.

Standard input is a list of [values, namespace], as JSON. Standard output has for each what it renders to, by template,
or the error as text; the last item is what `helm lint --strict` finds.
"""

import json
import sys
from typing import Any

import helm_python


def rendered(chart: helm_python.Chart, values: dict[str, Any], namespace: str) -> dict[str, str] | str:
    try:
        chart.validate_schema(values)
        return dict(chart.render(values, name="eventboard", namespace=namespace))
    except helm_python.HelmError as error:
        return str(error)


with helm_python.Chart.load(sys.argv[1]) as chart:
    answers: list[Any] = [rendered(chart, *asked) for asked in json.load(sys.stdin)]
answers.append([message["error"] for message in helm_python.lint(sys.argv[1], strict=True)["messages"]])
json.dump(answers, sys.stdout)
