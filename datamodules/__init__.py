"""The data: each module yields batches of indices and gathers them on the device."""

from datamodules.ag_news import AGNewsDataModule
from datamodules.base import IndexedDataModule
from datamodules.cifar100 import CIFAR100DataModule
from datamodules.digits import DigitsDataModule
from datamodules.download import DataError
from datamodules.images import ImageDataModule, ImageSplit
from datamodules.imdb import IMDBDataModule
from datamodules.joint import JointDataModule
from datamodules.resident import Resident, TaskData
from datamodules.synthetic import SyntheticSentimentDataModule
from datamodules.synthetic_topics import SyntheticTopicsDataModule
from datamodules.tensors import TensorDataModule
from datamodules.text import TextDataModule

__all__ = [
    "AGNewsDataModule",
    "CIFAR100DataModule",
    "DataError",
    "DigitsDataModule",
    "IMDBDataModule",
    "ImageDataModule",
    "ImageSplit",
    "IndexedDataModule",
    "JointDataModule",
    "Resident",
    "SyntheticSentimentDataModule",
    "SyntheticTopicsDataModule",
    "TaskData",
    "TensorDataModule",
    "TextDataModule",
]
