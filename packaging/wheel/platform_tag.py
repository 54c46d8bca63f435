"""Marks the wheel as one for Linux on x86-64 and for every Python 3."""

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PlatformTag(BuildHookInterface):
    """Sets the tag that `auditwheel` replaces by the oldest manylinux that the program runs on."""

    def initialize(self, version, build_data):
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-linux_x86_64"
