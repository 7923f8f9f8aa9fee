SUMMARY = "The last program of a machine: closes its storage, wipes its keys"
DESCRIPTION = "Init executes it at shutdown: it unmounts everything, closes every layer of storage, and wipes \
the keys of encrypted ones. Installed as built by make dist, with all that it needs."
LICENSE = "MIT & PSF-2.0 & LGPL-2.1-or-later"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302"

SRC_URI = "file://${FINALSTAGE_DIST}/finalstage-tree.tar.xz;subdir=tree \
           file://initramfs-module \
          "
S = "${UNPACKDIR}"

COMPATIBLE_HOST = "x86_64.*-linux"
INHIBIT_DEFAULT_DEPS = "1"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${nonarch_libdir}/finalstage-tree ${D}/init.d
    cp -a --no-preserve=ownership ${S}/tree/. ${D}${nonarch_libdir}/finalstage-tree/
    install -m 0755 ${S}/initramfs-module ${D}/init.d/95-finalstage
}

PACKAGES = "${PN} initramfs-module-finalstage"
FILES:${PN} = "${nonarch_libdir}/finalstage-tree"
SUMMARY:initramfs-module-finalstage = "initramfs support for finalstage"
FILES:initramfs-module-finalstage = "/init.d"
RDEPENDS:initramfs-module-finalstage = "${PN} initramfs-framework-base"

# It brings its own C library and Python, in a folder of its own: they are there for nobody else, and
# as they were built.
EXCLUDE_FROM_SHLIBS = "1"
SKIP_FILEDEPS = "1"
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"
INHIBIT_SYSROOT_STRIP = "1"
INSANE_SKIP:${PN} = "already-stripped ldflags libdir"
