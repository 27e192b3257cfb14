"""The backbones.

To add a backbone NAME, write its convolutions in `imcl.study.backbones` and the module
imcl.models.NAME with one function:

    def build(classes: int, channels: int = 3, width: int = 64) -> Backbone: ...

which returns an untrained network for images with that many channels; its first stage is `width`
channels wide. When you change what a backbone computes, raise its number in
`imcl.study.grid.REVISIONS`: then records of the old network no longer count.
"""
