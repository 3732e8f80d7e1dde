"""A Table 9 of runs of a second: two small spaces, settings, and the call for it."""

from nas.commands.table9 import _parser
from nas.tables.table9.jobs import Plan, plan_jobs

INPUTS = {
    "tiny.yaml": """
data: digits
train_images: 40
batch_size: 20
epochs: 1
report: false
channels: 2
layers: 3
threads: 1
search: {order: 1}
train: {test_images: 30, auxiliary: false}
select: {hold_out: 10}
table9: {searches: 2, retrainings: 2, random: 2}
""",
    "plain.yaml": "{operators: [none, skip_connect, avg_pool_3x3], nodes: 1}",
    "larger.yaml": "{extends: plain.yaml, operators: [dil_conv_3x3]}",
}
CALL = ("--spaces", "plain.yaml", "larger.yaml", "--config", "tiny.yaml")


def write_inputs(folder):
    for name, text in INPUTS.items():
        (folder / name).write_text(text)


def plan_of(*arguments) -> Plan:
    return plan_jobs(_parser().parse(arguments))
