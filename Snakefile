# From params.yaml to the paper. The rules are in workflow/rules, one file a phase; they run `imcl`,
# which works without Snakemake too.
from snakemake.utils import min_version

min_version("9.0")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/documents.smk"


rule all:
    default_target: True
    input:
        # Every file by name: Snakemake does not notice if a file between two others is missing.
        list(RECORDS.values()),
        ANALYSIS,
        TABLES,
        FIGURES,
        PAPER,
        REPORT,
        CRATE,
