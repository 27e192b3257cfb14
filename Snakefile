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
        # Every file by name: Snakemake does not miss a file that lies between two that exist.
        list(RECORDS.values()),
        ANALYSIS,
        TABLES,
        FIGURES,
        PAPER,
        REPORT,
        CRATE,
