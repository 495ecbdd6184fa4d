################################################################################
#
# twinward
#
################################################################################

TWINWARD_VERSION = $(call qstrip,$(BR2_PACKAGE_TWINWARD_REVISION))
TWINWARD_SITE = $(or $(call qstrip,$(BR2_PACKAGE_TWINWARD_REPOSITORY)),file://$(realpath $(BR2_EXTERNAL_TWINWARD_PATH)/../..))
TWINWARD_SITE_METHOD = git
TWINWARD_LICENSE = Apache-2.0
TWINWARD_LICENSE_FILES = LICENSE

# Which commit is built is the user's choice, so no hash of the archive can be known.
BR_NO_CHECK_HASH_FOR += $(TWINWARD_SOURCE)

# The loopback hub stays out.
TWINWARD_CARGO_BUILD_OPTS = --no-default-features
TWINWARD_CARGO_INSTALL_OPTS = --no-default-features

# These are in .cargo/config.toml, which vendoring overwrites; scripts/recipes.py copies them.
TWINWARD_SQLITE_OPTIONS = -USQLITE_ENABLE_FTS3 -USQLITE_ENABLE_FTS3_PARENTHESIS -USQLITE_ENABLE_FTS5 -USQLITE_ENABLE_RTREE -USQLITE_ENABLE_DBSTAT_VTAB -USQLITE_ENABLE_STAT4 -USQLITE_ENABLE_API_ARMOR -USQLITE_ENABLE_COLUMN_METADATA -USQLITE_ENABLE_LOAD_EXTENSION -USQLITE_SOUNDEX -DSQLITE_OMIT_LOAD_EXTENSION -DSQLITE_OMIT_JSON -DSQLITE_OMIT_DATETIME_FUNCS -DSQLITE_OMIT_AUTHORIZATION -DSQLITE_OMIT_PROGRESS_CALLBACK -DSQLITE_OMIT_UTF16 -DSQLITE_OMIT_INCRBLOB -DSQLITE_OMIT_DESERIALIZE -DSQLITE_OMIT_TRACE -DSQLITE_OMIT_COMPLETE -DSQLITE_OMIT_GET_TABLE -DSQLITE_OMIT_TCL_VARIABLE -DSQLITE_OMIT_COMPILEOPTION_DIAGS -DSQLITE_OMIT_INTROSPECTION_PRAGMAS -DSQLITE_OMIT_AUTOMATIC_INDEX -DSQLITE_OMIT_LIKE_OPTIMIZATION -DSQLITE_OMIT_BETWEEN_OPTIMIZATION -DSQLITE_OMIT_DECLTYPE -DSQLITE_UNTESTABLE -DSQLITE_OMIT_DEPRECATED -DSQLITE_OMIT_SHARED_CACHE -DSQLITE_DEFAULT_MEMSTATUS=0 -DSQLITE_DQS=0

# No programs in the kernel: Buildroot's clang for the host compiles for BPF only if the target gets LLVM too.
TWINWARD_CARGO_ENV = \
	LIBSQLITE3_FLAGS="$(TWINWARD_SQLITE_OPTIONS)" \
	TWINWARD_NO_EBPF=1

define TWINWARD_INSTALL_CONFIGURATION
	$(INSTALL) -D -m 0644 $(@D)/packaging/twinward.toml \
		$(TARGET_DIR)/etc/twinward/twinward.toml
	mkdir -p $(TARGET_DIR)/etc/twinward/conf.d
endef
TWINWARD_POST_INSTALL_TARGET_HOOKS += TWINWARD_INSTALL_CONFIGURATION

define TWINWARD_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(@D)/packaging/busybox/S60twinward \
		$(TARGET_DIR)/etc/init.d/S60twinward
endef

define TWINWARD_INSTALL_INIT_OPENRC
	$(INSTALL) -D -m 0755 $(@D)/packaging/openrc/twinward \
		$(TARGET_DIR)/etc/init.d/twinward
	$(INSTALL) -D -m 0644 $(@D)/packaging/openrc/twinward.confd \
		$(TARGET_DIR)/etc/conf.d/twinward
endef

define TWINWARD_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/systemd/twinward.service \
		$(TARGET_DIR)/usr/lib/systemd/system/twinward.service
	$(INSTALL) -D -m 0644 $(@D)/systemd/twinward.sysusers \
		$(TARGET_DIR)/usr/lib/sysusers.d/twinward.conf
	$(INSTALL) -D -m 0644 $(@D)/systemd/twinward.tmpfiles \
		$(TARGET_DIR)/usr/lib/tmpfiles.d/twinward.conf
endef

define TWINWARD_USERS
	twinward -1 twinward -1 * /var/lib/twinward - - twinward security micro-agent
endef

define TWINWARD_PERMISSIONS
	/var/lib/twinward d 700 twinward twinward - - - - -
endef

# What the agent reads events from; without one of them it takes the next best.
define TWINWARD_LINUX_CONFIG_FIXUPS
	$(call KCONFIG_ENABLE_OPT,CONFIG_CONNECTOR)
	$(call KCONFIG_ENABLE_OPT,CONFIG_PROC_EVENTS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_INET_DIAG)
	$(call KCONFIG_ENABLE_OPT,CONFIG_TASKSTATS)
	$(call KCONFIG_ENABLE_OPT,CONFIG_FANOTIFY)
endef

$(eval $(cargo-package))
