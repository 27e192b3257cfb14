"""The loop that people write, to compare with: PIL transforms in a DataLoader, .item() each step.

Two forms: `usual`, float32 in NCHW order with two workers, and `tuned`, the same with pinned
memory, channels-last order, autocast and no wait for the device between steps.
"""

import time

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

WORKERS = 2


class Pictures(Dataset):
    """Images uint8 (N, H, W, 3) with labels (N,), as torchvision's CIFAR hands them out."""

    def __init__(self, images, labels, mean, std, padding: int, flip: bool):
        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[1], padding=padding),
                transforms.RandomHorizontalFlip(0.5 if flip else 0.0),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        picture = Image.fromarray(self.images[index].squeeze())
        return self.transform(picture), int(self.labels[index])


class UsualLoop:
    """One network in the usual loop.

    Args:
        model: in NCHW order, on the device.
        pictures: the training set.
        batch_size: images; the incomplete last batch is left out.
        tuned: the second form.
        precision: of the tuned form.
        momentum: of SGD; weight_decay likewise.
    """

    def __init__(
        self,
        model: nn.Module,
        pictures: Pictures,
        *,
        batch_size: int,
        tuned: bool,
        precision: str,
        momentum: float,
        weight_decay: float,
        device: torch.device,
        seed: int = 0,
    ):
        self.device, self.tuned = device, tuned
        self.autocast = tuned and precision == "bf16"
        self.model = model.to(memory_format=torch.channels_last) if tuned else model
        self.loader = DataLoader(
            pictures,
            batch_size,
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
            momentum=momentum,
            weight_decay=weight_decay,
            nesterov=momentum > 0,
            fused=True if tuned else None,
        )

    def epoch(self, rate=lambda step: 1e-3) -> float:
        """Train one epoch; the seconds from its first batch's arrival to the end of its last step.

        Args:
            rate: the learning rate by the step within the epoch.
        """
        self.model.train()
        begun = None
        for step, (images, labels) in enumerate(self.loader):
            begun = begun or time.perf_counter()
            for group in self.optimizer.param_groups:
                group["lr"] = rate(step)
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
