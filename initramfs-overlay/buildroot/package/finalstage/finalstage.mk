################################################################################
#
# finalstage
#
################################################################################

FINALSTAGE_VERSION = 0.1.0
FINALSTAGE_SITE = $(call qstrip,$(BR2_PACKAGE_FINALSTAGE_TREE))
FINALSTAGE_SITE_METHOD = local
FINALSTAGE_LICENSE = MIT, PSF-2.0 (Python), LGPL-2.1+ (glibc)

# Not when packages are installed: before it makes images, Buildroot takes
# from each program the path of libraries that are not in the image's /usr.
define FINALSTAGE_INSTALL_TREE
	mkdir -p $(TARGET_DIR)/usr/lib/finalstage-tree
	cp -a $(FINALSTAGE_DIR)/* $(TARGET_DIR)/usr/lib/finalstage-tree/
endef
FINALSTAGE_ROOTFS_PRE_CMD_HOOKS += FINALSTAGE_INSTALL_TREE

$(eval $(generic-package))
