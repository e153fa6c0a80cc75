"""The same logits as torchvision's networks, whose definitions are rebuilt here in PyTorch."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save

from rcm.models import MODELS
from rcm.models.pretrained import filled, load

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `bench` has it)")
nn = torch.nn


def conv_norm(inputs, outputs, size, stride=1, groups=1):
    conv = nn.Conv2d(inputs, outputs, size, stride, (size - 1) // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(outputs)


class Residual(nn.Module):
    """torchvision's BasicBlock (outer = inner) or Bottleneck (outer = 4 inner)."""

    def __init__(self, inputs, inner, stride, bottleneck):
        super().__init__()
        outer = 4 * inner if bottleneck else inner
        plan = [(inputs, inner, 3, stride), (inner, inner, 3, 1)]
        if bottleneck:
            plan = [(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outer, 1, 1)]
        self.count = len(plan)
        for i, arguments in enumerate(plan, 1):
            conv, norm = conv_norm(*arguments)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", norm)
        self.downsample = None
        if stride != 1 or inputs != outer:
            self.downsample = nn.Sequential(*conv_norm(inputs, outer, 1, stride))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = torch.relu(y) if i < self.count else y
        return torch.relu(y + (self.downsample(x) if self.downsample else x))


class ResNet(nn.Module):
    def __init__(self, blocks, bottleneck, width, classes):
        super().__init__()
        self.conv1, self.bn1 = conv_norm(3, width, 7, 2)
        self.pool, inputs = nn.MaxPool2d(3, 2, 1), width
        for stage, count in enumerate(blocks):
            inner, layer = width << stage, nn.Sequential()
            for i in range(count):
                stride = 2 if stage and not i else 1
                layer.append(Residual(inputs, inner, stride, bottleneck))
                inputs = 4 * inner if bottleneck else inner
            self.add_module(f"layer{stage + 1}", layer)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


class VGG(nn.Module):
    def __init__(self, convolutions, norm, width, classes):
        super().__init__()
        layers, inputs = [], 3
        for count, multiple in zip(convolutions, (1, 2, 4, 8, 8), strict=True):
            for _ in range(count):
                layers.append(nn.Conv2d(inputs, multiple * width, 3, padding=1))
                inputs = multiple * width
                layers += [nn.BatchNorm2d(inputs)] if norm else []
                layers.append(nn.ReLU())
            layers.append(nn.MaxPool2d(2, 2))
        self.features, self.pool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(inputs * 49, 4096), nn.ReLU(), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, classes),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(self.pool(self.features(x)).flatten(1))


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        inner, layers = inputs * expansion, []
        if expansion > 1:
            layers.append(nn.Sequential(*conv_norm(inputs, inner, 1), nn.ReLU6()))
        layers.append(nn.Sequential(*conv_norm(inner, inner, 3, stride, inner), nn.ReLU6()))
        self.conv = nn.Sequential(*layers, *conv_norm(inner, outputs, 1))
        self.identity = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.identity else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, classes):
        super().__init__()
        layers, inputs = [nn.Sequential(*conv_norm(3, 32, 3, 2), nn.ReLU6())], 32
        for expansion, outputs, count, stride in (
            (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1),
        ):  # fmt: skip
            for i in range(count):
                layers.append(Inverted(inputs, outputs, 1 if i else stride, expansion))
                inputs = outputs
        layers.append(nn.Sequential(*conv_norm(inputs, 1280, 1), nn.ReLU6()))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(1280, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


CASES = {
    "resnet18": (lambda: ResNet((2, 2, 2, 2), False, 64, 11), {}, 64),
    "resnet50": (lambda: ResNet((3, 4, 6, 3), True, 64, 11), {}, 64),
    "vgg19": (lambda: VGG((2, 2, 4, 4, 4), False, 8, 11), {"width": 8}, 224),
    "vgg11_bn": (lambda: VGG((1, 1, 2, 2, 2), True, 8, 11), {"width": 8}, 224),
    "mobilenet_v2": (lambda: MobileNetV2(11), {}, 64),
}


def random_weights(network):
    """A network with norms and biases that are no identity, as a trained one's."""
    torch.manual_seed(0)
    for name, value in network.state_dict().items():
        if name.endswith(("running_var", "weight")) and value.ndim == 1:
            value.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.3)
    return network.eval()


@pytest.mark.parametrize("name", CASES)
def test_logits_are_torchvisions(name, tmp_path, record_property):
    make, fields, size = CASES[name]
    theirs = random_weights(make())
    images = np.random.default_rng(0).uniform(size=(2, size, size, 3)).astype(np.float32)
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    shown = (images - mean[None, None, None]) / deviation[None, None, None]
    with torch.no_grad():
        expected = theirs(torch.from_numpy(shown.transpose(0, 3, 1, 2).copy())).numpy()

    path = tmp_path / "w.safetensors"
    path.write_bytes(save({name: value.numpy() for name, value in theirs.state_dict().items()}))
    network = MODELS[name](classes=11, stem="imagenet", inputs="imagenet", **fields)
    weights = load(str(path), network, images.shape[1:])
    assert weights.inputs == network.inputs
    made = jax.eval_shape(network.init, jax.random.key(0), images[:1])
    variables = filled(made, weights.arrays)
    found = np.asarray(jax.jit(network.apply)(variables, images))
    assert expected.std() > 0.1
    error = np.abs(found - expected).max() / np.abs(expected).max()
    record_property("relative error", f"{error:.1e}")
    print(f"{name}: largest difference {error:.1e} of the largest logit")
    assert error < 1e-5
