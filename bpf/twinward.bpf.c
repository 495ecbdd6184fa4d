// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// What the kernel tells of starts and ends of processes, and of connections (connections.h): small programs on raw
// tracepoints that write records into one ring. The format of the records is described in src/sys/bpf/record.rs, which
// reads them.
//
// The layout of the kernel's own structures differs from kernel to kernel. The agent looks the offsets up in the
// kernel's type information (src/sys/btf.rs, src/sys/bpf/layout.rs) and puts them into the constants below before it loads the programs, so
// one object fits all kernels and no kernel header is needed to build it. The kernel's verifier knows the constants and
// drops the branches for members that this kernel does not have.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

// --- what of linux/bpf.h is used: numbers that the kernel never changes ---

enum { MAP_ARRAY = 2, MAP_LRU_HASH = 9, MAP_RINGBUF = 27 };
enum { RB_NO_WAKEUP = 1, RB_FORCE_WAKEUP = 2, RB_AVAIL_DATA = 0 };

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const map_delete)(void *map, const void *key) = (void *)3;
static u32 (*const this_cpu)(void) = (void *)8;
static u64 (*const current_process)(void) = (void *)14;
static u64 (*const current_user)(void) = (void *)15;
static u64 (*const current_task)(void) = (void *)35;
static u64 (*const current_cgroup_id)(void) = (void *)80;
static long (*const read_user)(void *to, u32 size, const void *from) = (void *)112;
static long (*const read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*const read_kernel_text)(void *to, u32 size, const void *from) = (void *)115;
static u64 (*const now_since_boot)(void) = (void *)125;
static long (*const ring_output)(void *ring, void *record, u64 size, u64 flags) = (void *)130;
static u64 (*const ring_query)(void *ring, u64 what) = (void *)134;

struct map {
	u32 type, key_size, value_size, max_entries, flags;
};

// --- what the agent sets before loading ---

// Offsets in bytes; ABSENT if this kernel has no such member.
#define ABSENT 0xffff
#define OFFSET(name) volatile const u16 SECTION(".rodata") name = ABSENT

OFFSET(task_flags);
OFFSET(task_mm);
OFFSET(task_tgid);
OFFSET(task_real_parent);
OFFSET(task_group_leader);
OFFSET(task_cred);
OFFSET(task_signal);
OFFSET(task_exit_code);
OFFSET(task_start_boottime);
OFFSET(task_comm);
OFFSET(task_loginuid);
OFFSET(task_sessionid);
OFFSET(task_thread_pid);
OFFSET(task_cgroups);
OFFSET(mm_arg_start);
OFFSET(mm_arg_end);
OFFSET(binprm_interp);
OFFSET(cred_uid);
OFFSET(cred_euid);
OFFSET(signal_live);
OFFSET(signal_flags);
OFFSET(signal_group_exit_code);
OFFSET(pid_level);
OFFSET(pid_numbers);
OFFSET(pid_namespace_inum);
OFFSET(css_set_dfl_cgrp);
OFFSET(cgroup_kn);
OFFSET(kernfs_node_name);
OFFSET(sock_family);
OFFSET(sock_local_port);
OFFSET(sock_remote_port);
OFFSET(sock_local);
OFFSET(sock_remote);
OFFSET(sock_local_v6);
OFFSET(sock_remote_v6);
OFFSET(sock_net);
OFFSET(sock_protocol);
OFFSET(sock_uid);
OFFSET(sock_flags);
OFFSET(sock_socket);
OFFSET(net_inum);
OFFSET(tcp_bytes_sent);
OFFSET(tcp_bytes_retrans);
OFFSET(tcp_bytes_received);
OFFSET(skb_sk);
OFFSET(skb_head);
OFFSET(skb_protocol);
OFFSET(skb_network_header);
OFFSET(skb_transport_header);
OFFSET(task_files);
OFFSET(files_fdt);
OFFSET(fdtable_max_fds);
OFFSET(fdtable_fd);
OFFSET(socket_file);
OFFSET(file_inode);
OFFSET(inode_ino);

// How many bytes of the arguments are kept; one more than an event shows, so that it can be told that there was more.
volatile const u32 SECTION(".rodata") argument_limit = 4097;
// Half of the ring, in bytes.
volatile const u32 SECTION(".rodata") ring_half = 1 << 17;
// Whether connections of the machine with itself are told.
volatile const u32 SECTION(".rodata") loopback_told = 0;
// The ports that the kernel gives to sockets that ask for none.
volatile const u32 SECTION(".rodata") ephemeral_first = 32768;
volatile const u32 SECTION(".rodata") ephemeral_last = 60999;

// --- maps ---

// The records. The size is set by the agent.
struct map SECTION("maps") records = { .type = MAP_RINGBUF, .max_entries = 1 << 18 };

// What both sides count and flag; one number each.
enum { WOKEN, LOST_EXEC, LOST_EXIT, LOST_TCP, LOST_UDP, LOST_FLOOD, UDP_SECOND, UDP_TOLD, STATE_COUNT };
struct map SECTION("maps") state = {
	.type = MAP_ARRAY, .key_size = 4, .value_size = 8, .max_entries = STATE_COUNT,
};

// --- records ---

enum { RECORD_EXEC = 1, RECORD_EXIT, RECORD_SOCKET, RECORD_CLOSED };

#define UNKNOWN 0xffffffffu
#define ARGUMENT_MOST 32776
#define PATH_MOST 4096
#define CGROUP_MOST 128

struct exec_record {
	u32 kind, pid;
	u64 when;
	u32 parent, uid, euid, login_uid, session;
	u32 namespace, inner_pid;
	u32 argument_size; // all of them, kept or not
	u64 cgroup;
	u32 argument_kept, program_kept, cgroup_kept, zero;
	// The arguments, the program, the name of the cgroup, one behind the other.
	char text[ARGUMENT_MOST + PATH_MOST + CGROUP_MOST];
};
#define EXEC_FIXED __builtin_offsetof(struct exec_record, text)

struct exit_record {
	u32 kind, pid;
	u64 when;
	u32 parent, uid, status, flags;
	u64 started;
	char name[16];
};

// Too large for the stack of a program, and for an array of the kernel's per-CPU memory. The agent sets how many CPUs
// there may be. One program uses it, and the kernel never runs a program of a tracepoint twice at once on a CPU.
struct map SECTION("maps") scratch = {
	.type = MAP_ARRAY, .key_size = 4, .value_size = sizeof(struct exec_record), .max_entries = 1,
};

// --- reading members ---

#define READ(to, from, offset) \
	((offset) == ABSENT ? -1 : read_kernel(&(to), sizeof(to), (const char *)(from) + (offset)))

INLINE u64 pointer(u64 from, u16 offset)
{
	u64 to = 0;
	if (from)
		READ(to, from, offset);
	return to;
}

INLINE u32 number(u64 from, u16 offset)
{
	u32 to = UNKNOWN;
	if (from && READ(to, from, offset))
		return UNKNOWN;
	return to;
}

// --- handing on ---

INLINE u64 *slot(u32 which) { return map_lookup(&state, &which); }

INLINE void lose(u32 which)
{
	u64 *count = slot(which);
	if (count)
		__sync_fetch_and_add(count, 1);
}

// The reader sleeps while nothing happens, and goes by a timer while something does. So it is woken by the first record
// after a quiet time, and once more if half of the ring fills before its timer ends. WOKEN is 0 while it sleeps,
// 1 while it goes by its timer, 2 once it was woken for a half full ring; the reader alone takes it back.
INLINE int hand_on(void *record, u64 size, u32 lost)
{
	u64 flags = RB_NO_WAKEUP;
	u64 *woken = slot(WOKEN);
	if (woken && *woken == 0) {
		*woken = 1;
		flags = RB_FORCE_WAKEUP;
	} else if (woken && *woken == 1 && ring_query(&records, RB_AVAIL_DATA) > ring_half) {
		*woken = 2;
		flags = RB_FORCE_WAKEUP;
	}
	if (ring_output(&records, record, size, flags) == 0)
		return 1;
	lose(lost);
	return 0;
}

// --- the programs ---

// Arguments of the tracepoint: task, old pid, linux_binprm.
int SECTION("raw_tracepoint/sched_process_exec") started(u64 *context)
{
	u64 task = context[0], binprm = context[2];
	u32 cpu = this_cpu();
	struct exec_record *record = map_lookup(&scratch, &cpu);
	if (!record) {
		lose(LOST_EXEC);
		return 0;
	}
	u64 cred = pointer(task, task_cred);
	record->kind = RECORD_EXEC;
	record->pid = number(task, task_tgid);
	record->when = now_since_boot();
	record->parent = number(pointer(task, task_real_parent), task_tgid);
	record->uid = number(cred, cred_uid);
	record->euid = number(cred, cred_euid);
	record->login_uid = number(task, task_loginuid);
	record->session = number(task, task_sessionid);
	record->cgroup = current_cgroup_id();
	record->zero = 0;

	// A process in a container has a number of its own there: one { int nr; pid_namespace *ns; } for each level.
	record->namespace = 0;
	record->inner_pid = 0;
	u64 pid = pointer(task, task_thread_pid);
	u32 level = number(pid, pid_level);
	if (pid && level > 0 && level <= 32 && pid_numbers != ABSENT) {
		u64 entry = pid + pid_numbers + level * 16;
		record->inner_pid = number(entry, 0);
		record->namespace = number(pointer(entry, 8), pid_namespace_inum);
	}

	u32 at = 0;
	u64 mm = pointer(task, task_mm);
	u64 from = pointer(mm, mm_arg_start), to = pointer(mm, mm_arg_end);
	u64 size = to > from ? to - from : 0;
	record->argument_size = size < UNKNOWN ? size : UNKNOWN;
	if (size > argument_limit)
		size = argument_limit;
	if (size > ARGUMENT_MOST)
		size = ARGUMENT_MOST;
	if (size && read_user(record->text, size, (const void *)from) == 0)
		at = size;
	record->argument_kept = at;

	// For a script this is its interpreter, as it is with /proc/PID/exe.
	long length = read_kernel_text(record->text + at, PATH_MOST, (const void *)pointer(binprm, binprm_interp));
	record->program_kept = length > 0 && length <= PATH_MOST ? length : 0;
	at += record->program_kept;

	u64 cgroup = pointer(pointer(task, task_cgroups), css_set_dfl_cgrp);
	u64 name = pointer(pointer(cgroup, cgroup_kn), kernfs_node_name);
	record->cgroup_kept = 0;
	if (name && at <= ARGUMENT_MOST + PATH_MOST) {
		length = read_kernel_text(record->text + at, CGROUP_MOST, (const void *)name);
		record->cgroup_kept = length > 0 && length <= CGROUP_MOST ? length : 0;
		at += record->cgroup_kept;
	}

	u64 whole = EXEC_FIXED + at;
	if (whole <= sizeof(*record))
		hand_on(record, whole, LOST_EXEC);
	return 0;
}

#define KERNEL_THREAD 0x00200000
#define GROUP_EXIT 4

// Argument of the tracepoint: task. It is called for each thread; the last one of a process ends it. Two threads that
// end at the same moment may both be the last one here: the agent takes the second record for what it is.
int SECTION("raw_tracepoint/sched_process_exit") ended(u64 *context)
{
	u64 task = context[0];
	u64 signal = pointer(task, task_signal);
	u32 flags = number(task, task_flags);
	if (number(signal, signal_live) != 0 || flags & KERNEL_THREAD)
		return 0;
	u64 leader = pointer(task, task_group_leader);
	struct exit_record record = {
		.kind = RECORD_EXIT,
		.pid = number(task, task_tgid),
		.when = now_since_boot(),
		.parent = number(pointer(leader, task_real_parent), task_tgid),
		.uid = number(pointer(task, task_cred), cred_uid),
		.flags = flags,
		.started = pointer(leader, task_start_boottime),
	};
	// What wait(2) gives the parent.
	record.status = number(signal, signal_flags) & GROUP_EXIT ? number(signal, signal_group_exit_code)
	                                                          : number(leader, task_exit_code);
	READ(record.name, leader, task_comm);
	hand_on(&record, sizeof(record), LOST_EXIT);
	return 0;
}

#include "connections.h"

// Several helpers may be called by GPL-compatible programs only.
const char SECTION("license") program_license[] = "Dual MIT/GPL";
