SUMMARY = "On-device security micro-agent for Azure IoT Hub"
DESCRIPTION = "Signs in to Azure IoT Hub as the module azureiotsecurity and streams security events: started programs, \
connections, sign-ins, users, listening ports, firewall, hardware, OS baseline. Every event is delivered, or counted as \
dropped with a reason."
# It has no public home yet; TWINWARD_REPOSITORY says where it is.
HOMEPAGE = "https://twinward.invalid"
SECTION = "security"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=3b83ef96387f14655fc854ddc3c6bd57"
CVE_PRODUCT = "twinward"

# The commit that is checked out there. A product pins it: SRCREV:pn-twinward = "..." in its configuration.
SRC_URI = "git://${TWINWARD_REPOSITORY};protocol=file;usehead=1;nobranch=1"
SRCREV ?= "${AUTOREV}"

# scripts/recipes.py writes it. The class cargo-update-recipe-crates would take the crates of fuzz/Cargo.lock in too.
require twinward-crates.inc

inherit cargo systemd update-rc.d useradd

# Programs in the kernel, where it is new enough and the processor has 64 bits; without them the agent takes audit.
PACKAGECONFIG ??= ""
PACKAGECONFIG:aarch64 ??= "ebpf"
PACKAGECONFIG:x86-64 ??= "ebpf"
PACKAGECONFIG:riscv64 ??= "ebpf"
PACKAGECONFIG[ebpf] = ",,clang-native"

export TWINWARD_NO_EBPF = "${@bb.utils.contains('PACKAGECONFIG', 'ebpf', '0', '1', d)}"
export TWINWARD_CLANG = "${STAGING_BINDIR_NATIVE}/clang"
# What is to be stripped is stripped while packaging, into twinward-dbg.
export CARGO_PROFILE_RELEASE_STRIP = "none"
export CARGO_PROFILE_RELEASE_DEBUG = "line-tables-only"

# The loopback hub stays out.
CARGO_BUILD_FLAGS:append = " --no-default-features"

# Cargo looks for .cargo/config.toml, which makes SQLite smaller, where it is started.
do_compile:prepend() {
    cd ${S}
}

do_install:append() {
    install -D -m 0644 ${S}/packaging/twinward.toml ${D}${sysconfdir}/twinward/twinward.toml
    install -d ${D}${sysconfdir}/twinward/conf.d
    if ${@bb.utils.contains('DISTRO_FEATURES', 'systemd', 'true', 'false', d)}; then
        install -D -m 0644 ${S}/systemd/twinward.service ${D}${systemd_system_unitdir}/twinward.service
        install -D -m 0644 ${S}/systemd/twinward.sysusers ${D}${nonarch_libdir}/sysusers.d/twinward.conf
        install -D -m 0644 ${S}/systemd/twinward.tmpfiles ${D}${nonarch_libdir}/tmpfiles.d/twinward.conf
    else
        install -D -m 0755 ${S}/packaging/busybox/S60twinward ${D}${sysconfdir}/init.d/twinward
    fi
}

USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "--system --user-group --no-create-home --home-dir ${localstatedir}/lib/twinward \
    --shell ${base_sbindir}/nologin --comment 'twinward security micro-agent' twinward"

SYSTEMD_SERVICE:${PN} = "twinward.service"
INITSCRIPT_NAME = "twinward"
INITSCRIPT_PARAMS = "defaults 60"

FILES:${PN} += "${systemd_system_unitdir} ${nonarch_libdir}/sysusers.d ${nonarch_libdir}/tmpfiles.d"
CONFFILES:${PN} += "${sysconfdir}/twinward/twinward.toml"
# TLS checks the hub's certificate against these.
RDEPENDS:${PN} += "ca-certificates"
