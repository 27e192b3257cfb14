# From params.yaml to the paper. The rules stand in workflow/rules, one file a phase; what they run
# is `imcl`, which works without Snakemake too.
from snakemake.utils import min_version

min_version("9.0")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        # Named one by one, since a missing file between two that are there is not missed otherwise.
        rules.records.input,
        STUDY_SUMMARY,
        TABLES,
        FIGURES,
        PAPER,
        REPORT,
        CRATE,
