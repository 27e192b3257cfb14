"""The loop that people write, to compare with: PIL transforms in a DataLoader, .item() each step.

Two forms: `usual`, float32 in NCHW order with two workers, and `tuned`, the same with pinned
memory, channels-last order, autocast and no wait for the device between steps.
"""

import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from imcl.data.arrays import Images, Labels
from imcl.study.settings import Training
from imcl.training.batches import Augmentation

WORKERS = 2


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images uint8 (N, H, W, C) with labels (N,), as torchvision's CIFAR serves them."""

    def __init__(
        self,
        images: Images,
        labels: Labels,
        mean: Sequence[float],
        std: Sequence[float],
        augmentation: Augmentation,
    ):
        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[1], padding=augmentation.padding),
                transforms.RandomHorizontalFlip(0.5 if augmentation.flip else 0.0),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.images[index].squeeze())
        return self.transform(picture), int(self.labels[index])


class UsualLoop:
    """One network in the usual loop.

    Args:
        model: in NCHW order, on the device.
        pictures: the training set.
        training: for batch size, momentum, weight decay, and the precision of the tuned form.
        device: the model's.
        tuned: the second form.
        seed: of the order.
    """

    def __init__(
        self,
        model: nn.Module,
        pictures: Pictures,
        training: Training,
        device: torch.device,
        *,
        tuned: bool,
        seed: int = 0,
    ):
        self.device, self.tuned = device, tuned
        self.autocast = tuned and training.precision == "bf16"
        if tuned:
            # torch's stubs do not have `memory_format`.
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model = model
        self.loader = DataLoader(
            pictures,
            training.batch_size,
            shuffle=True,
            num_workers=WORKERS,
            drop_last=True,
            persistent_workers=True,
            pin_memory=tuned and device.type == "cuda",
            generator=torch.Generator().manual_seed(seed),
        )
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            lr=0.1,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            nesterov=training.momentum > 0,
            fused=True if tuned else None,
        )

    def epoch(self, rates: Sequence[float] | None = None) -> float:
        """Train one epoch; the seconds from its first batch's arrival to the end of its last step.

        Args:
            rates: the learning rate of each step; 0.001 if it does not matter.
        """
        rates = rates or [1e-3] * len(self.loader)
        self.model.train()
        begun = 0.0
        for step, (images, labels) in enumerate(self.loader):
            begun = begun or time.perf_counter()
            for group in self.optimizer.param_groups:
                group["lr"] = rates[step]
            images = images.to(self.device, non_blocking=self.tuned)
            labels = labels.to(self.device, non_blocking=self.tuned)
            if self.tuned:
                images = images.to(memory_format=torch.channels_last)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                logits = self.model(images)
                loss = F.cross_entropy(logits.float(), labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if not self.tuned:
                loss.item()
                (logits.argmax(1) == labels).sum().item()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - begun
