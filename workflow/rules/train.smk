# One job is one cell of the grid, with all its seeds.

# A record's name carries the digest of all that decides it, so a record that is there is right, and
# no rule makes it: neither file times nor lost data nor lost metadata can have it trained again.
# Delete it, or say --forceall, to have that.
FORCED = {"--forceall", "-F"} & set(sys.argv)
TRAINED = [] if FORCED else [c.digest for c in CELLS.values() if c.record.exists()]
UNTRAINED = [c.digest for c in CELLS.values() if FORCED or not c.record.exists()]


def trainable():
    """A regular expression of the cells that rule train makes, by the shorter of the two lists.

    Snakemake carries it in every job's file names, so its length counts squared.
    """
    if len(TRAINED) < len(UNTRAINED):
        return rf"(?!.*-(?:{'|'.join(TRAINED) or '(?!)'})\.json$)[^/]+"
    return rf"[^/]+-(?:{'|'.join(UNTRAINED) or '(?!)'})"


def cell_of(wildcards):
    if wildcards.cell not in CELLS:
        raise WorkflowError(f"study {STUDY}: {unknown('cell', wildcards.cell, CELLS)}")
    return CELLS[wildcards.cell]


rule train:
    input:
        dataset=lambda wildcards: cell_of(wildcards).dataset.path,
        noise=lambda wildcards: [
            noise.path for noise in [cell_of(wildcards).noise] if noise
        ],
    output:
        grid.RECORDS / "{cell}.json",
    log:
        "logs/train/{cell}.log",
    wildcard_constraints:
        cell=trainable(),
    conda:
        "../envs/imcl.yaml"
    threads: 1  # two cells in one thread each are done before one after the other in two
    resources:
        gpu_slots=1,  # counts where a profile says how many there are
    params:
        study=STUDY,
    message:
        "train {wildcards.cell}"
    shell:
        "python -m imcl train --study {params.study:q} --threads {threads} {wildcards.cell:q}"
        " > {log:q} 2>&1"


rule records:
    input:
        [RECORDS / cell.record.name for cell in CELLS.values()],
