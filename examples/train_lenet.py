"""LeNet-5 on the digits that come with the package, or on MNIST (--data-dir): a PyTorch script but for its imports."""

import argparse

import pyengine as pe
import pyengine.nn.functional as F
from pyengine.data import DataLoader, TensorDataset
from pyengine.vision import datasets
from pyengine.vision.models import LeNet5

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data-dir", help="the folder that holds MNIST/raw/")
parser.add_argument("--epochs", type=int, default=30)
options = parser.parse_args()


def load(train):
    mnist = options.data_dir is not None
    images = datasets.MNIST(options.data_dir, train=train) if mnist else datasets.Digits(train=train, size=28)
    return DataLoader(TensorDataset(*images.tensors()), batch_size=64, shuffle=train)


pe.manual_seed(0)
train_loader, test_loader = load(train=True), load(train=False)
model = LeNet5()
optimizer = pe.optim.AdamW(model.parameters(), lr=0.004, weight_decay=0.1)
scheduler = pe.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=options.epochs * len(train_loader))

for epoch in range(options.epochs):
    model.train()
    for images, labels in train_loader:
        loss = F.cross_entropy(model(images), labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    model.eval()
    with pe.no_grad():
        correct = sum((model(images).argmax(1) == labels).sum().item() for images, labels in test_loader)
    print(f"epoch {epoch + 1}: loss {loss.item():.3f}, test accuracy {100 * correct / len(test_loader.dataset):.1f} %")
