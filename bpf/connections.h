// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// What the kernel tells of connections: part of twinward.bpf.c.

#define TCP 6
#define UDP 17
#define IPV4 2
#define IPV6 10
#define ETHERTYPE_IPV4 0x0008 // in the order of the wire
#define ETHERTYPE_IPV6 0xdd86

enum { OUT = 1, IN, LISTENS, LISTENS_NO_MORE };

// A TCP connection, the first UDP packet to a peer, or a TCP socket that begins or ends to listen.
struct socket_record {
	u32 kind, pid;
	u64 when;
	u32 parent, uid;
	u64 socket, inode;
	u32 namespace, forked;
	u16 local_port, remote_port;
	u8 protocol, what, family, zero;
	u8 local[16], remote[16];
};

struct closed_record {
	u32 kind, zero;
	u64 when, socket, opened, sent, received;
};

INLINE u32 half(u64 from, u16 offset)
{
	u16 to = 0;
	if (from)
		READ(to, from, offset);
	return to;
}

INLINE u32 swapped(u16 port) { return __builtin_bswap16(port); }

// --- maps: bounded, and what was not used for longest goes first ---

struct process {
	u32 pid, parent, uid, forked;
};

// Who connects; by the socket, until it is connected.
struct map SECTION("maps") connecting = {
	.type = MAP_LRU_HASH, .key_size = 8, .value_size = sizeof(struct process), .max_entries = 1024,
};

// When the connections began whose end is told; by the socket.
struct map SECTION("maps") opened = { .type = MAP_LRU_HASH, .key_size = 8, .value_size = 8, .max_entries = 1024 };

// A peer of UDP. Where we call, our own port is of no account, and where we serve, the caller's is not.
struct peer {
	u32 pid;
	u16 port;
	u8 family, what;
	u8 address[16];
};

// When it was told.
struct map SECTION("maps") peers = {
	.type = MAP_LRU_HASH, .key_size = sizeof(struct peer), .value_size = 8, .max_entries = 2048,
};

// --- what both have in common ---

// Connections come from outside, as many as somebody likes: the last quarter of the ring is for processes.
INLINE int hand_on_if_room(void *record, u64 size, u32 lost)
{
	if (ring_query(&records, RB_AVAIL_DATA) > ring_half + ring_half / 2) {
		lose(lost);
		return 0;
	}
	return hand_on(record, size, lost);
}

INLINE int is_loopback(u32 family, const u8 *address)
{
	const u32 *word = (const u32 *)address;
	if (family == IPV4)
		return address[0] == 127;
	if (word[0] || word[1])
		return 0;
	return word[2] ? word[2] == 0xffff0000 && address[12] == 127 : word[3] == 0x01000000;
}

#define FORKED_NOT_EXECED 0x40

INLINE void this_process(struct process *process)
{
	u64 task = current_task();
	process->pid = current_process() >> 32;
	process->uid = current_user();
	process->parent = number(pointer(task, task_real_parent), task_tgid);
	process->forked = (number(task, task_flags) & FORKED_NOT_EXECED) != 0;
}

INLINE u64 file_of(u64 sk) { return pointer(pointer(sk, sock_socket), socket_file); }

// What the socket itself tells.
INLINE void describe(struct socket_record *record, u64 sk, u32 what)
{
	record->kind = RECORD_SOCKET;
	record->when = now_since_boot();
	record->socket = sk;
	record->namespace = number(pointer(sk, sock_net), net_inum);
	record->protocol = TCP;
	record->what = what;
	record->family = half(sk, sock_family);
	record->local_port = half(sk, sock_local_port);
	record->remote_port = swapped(half(sk, sock_remote_port));
	if (record->family == IPV6) {
		READ(record->local, sk, sock_local_v6);
		READ(record->remote, sk, sock_remote_v6);
	} else {
		u32 local = 0, remote = 0;
		READ(local, sk, sock_local);
		READ(remote, sk, sock_remote);
		*(u32 *)record->local = local;
		*(u32 *)record->remote = remote;
	}
}

// --- TCP ---

enum { ESTABLISHED = 1, SYN_SENT, SYN_RECEIVED, CLOSE = 7, LISTEN = 10 };

// A bit of the socket's flags: the other side has sent its FIN.
#define DONE 2
// For so long after its beginning the end of a connection is told, in nanoseconds: the agent waits a little less.
#define END_TOLD 1500000000ull

INLINE void closed(u64 sk)
{
	map_delete(&connecting, &sk);
	u64 *since = map_lookup(&opened, &sk);
	if (!since)
		return;
	struct closed_record record = { .kind = RECORD_CLOSED, .when = now_since_boot(), .socket = sk, .opened = *since };
	map_delete(&opened, &sk);
	if (record.when - record.opened > END_TOLD)
		return;
	u64 flags = pointer(sk, sock_flags), again = pointer(sk, tcp_bytes_retrans);
	record.sent = pointer(sk, tcp_bytes_sent);
	record.sent -= record.sent > again ? again : record.sent;
	record.received = pointer(sk, tcp_bytes_received);
	// TCP counts the FIN as a byte that came.
	if (flags & DONE && record.received)
		record.received--;
	hand_on_if_room(&record, sizeof(record), LOST_TCP);
}

// The kernel does not run a program in an interrupt that came while it ran on the same processor. So what happens in
// calls of processes has a program of its own, and the other one, for what packets do, leaves early what is not its.

// Arguments of the tracepoint: socket, old state, new state. Who runs is who connects, or listens.
int SECTION("raw_tracepoint/inet_sock_set_state") called(u64 *context)
{
	u64 sk = context[0];
	u32 from = context[1], to = context[2], what;
	if (to == SYN_SENT)
		what = OUT;
	else if (to == LISTEN)
		what = LISTENS;
	else if (to == CLOSE && from == LISTEN)
		what = LISTENS_NO_MORE;
	else
		return 0;
	if (half(sk, sock_protocol) != TCP)
		return 0;
	struct socket_record record = {};
	struct process process;
	describe(&record, sk, what);
	this_process(&process);
	if (what == OUT) {
		if (loopback_told || !is_loopback(record.family, record.remote))
			map_update(&connecting, &sk, &process, 0);
		return 0;
	}
	record.pid = process.pid;
	record.parent = process.parent;
	record.uid = process.uid;
	record.forked = process.forked;
	hand_on_if_room(&record, sizeof(record), LOST_TCP);
	return 0;
}

// The same arguments. Who runs has nothing to do with it.
int SECTION("raw_tracepoint/inet_sock_set_state") changed(u64 *context)
{
	u64 sk = context[0];
	u32 from = context[1], to = context[2];
	int made = to == ESTABLISHED && (from == SYN_SENT || from == SYN_RECEIVED);
	if (!made && (to != CLOSE || from == LISTEN))
		return 0;
	if (half(sk, sock_protocol) != TCP)
		return 0;
	if (!made) {
		closed(sk);
		return 0;
	}
	struct process *known = map_lookup(&connecting, &sk);
	struct socket_record record = {};
	describe(&record, sk, known || from == SYN_SENT ? OUT : IN);
	if (!loopback_told && is_loopback(record.family, record.remote))
		return 0;
	if (known) {
		record.pid = known->pid;
		record.parent = known->parent;
		record.uid = known->uid;
		record.forked = known->forked;
		map_delete(&connecting, &sk);
	} else {
		record.parent = UNKNOWN;
		record.uid = number(sk, sock_uid);
	}
	if (hand_on_if_room(&record, sizeof(record), LOST_TCP))
		map_update(&opened, &sk, &record.when, 0);
	return 0;
}

// --- UDP ---

// A peer is told again after this time, in nanoseconds.
#define AGAIN 600000000000ull
// New peers that are told in a second.
#define UDP_MOST 200
// Descriptors that are looked at, and how many at once.
#define DESCRIPTORS 1024
#define AT_ONCE 16

// Whether the running process holds this file. A packet that waited for something, such as the neighbour's hardware
// address, is sent by whoever runs when it is there.
INLINE int holds(u64 file)
{
	u64 table = pointer(pointer(current_task(), task_files), files_fdt);
	u64 files = pointer(table, fdtable_fd);
	u32 count = number(table, fdtable_max_fds);
	u64 some[AT_ONCE];
	int found = 0;
	if (!file || !files || count == UNKNOWN)
		return 0;
	for (u32 at = 0; at < DESCRIPTORS; at += AT_ONCE) {
		if (at >= count || read_kernel(some, sizeof(some), (const void *)(files + at * 8)))
			break;
#pragma unroll
		for (u32 one = 0; one < AT_ONCE; one++)
			found |= some[one] == file;
		if (found)
			break;
	}
	return found;
}

INLINE int told_lately(struct peer *peer, u64 now)
{
	u64 *told = map_lookup(&peers, peer);
	return told && now - *told < AGAIN;
}

// Remote machines can have us answer to as many peers as they like.
INLINE int is_flood(u64 now)
{
	u64 second = now / 1000000000;
	u64 *current = slot(UDP_SECOND), *told = slot(UDP_TOLD);
	if (!current || !told)
		return 0;
	if (*current != second) {
		*current = second;
		*told = 0;
	}
	if (*told >= UDP_MOST) {
		lose(LOST_FLOOD);
		return 1;
	}
	__sync_fetch_and_add(told, 1);
	return 0;
}

// Argument of the tracepoint: packet. It is called for each one that leaves through any device, loopback too.
int SECTION("raw_tracepoint/net_dev_queue") sent(u64 *context)
{
	u64 skb = context[0];
	u64 sk = pointer(skb, skb_sk);
	if (!sk || half(sk, sock_protocol) != UDP)
		return 0;
	u64 head = pointer(skb, skb_head);
	u64 network = head + half(skb, skb_network_header);
	u32 ethertype = half(skb, skb_protocol);
	struct socket_record record = {};
	if (ethertype == ETHERTYPE_IPV4) {
		u8 header[20];
		if (read_kernel(header, sizeof(header), (const void *)network))
			return 0;
		// Only the first of a packet's pieces has ports.
		if (header[9] != UDP || header[6] & 0x1f || header[7])
			return 0;
		__builtin_memcpy(record.local, header + 12, 4);
		__builtin_memcpy(record.remote, header + 16, 4);
		record.family = IPV4;
	} else if (ethertype == ETHERTYPE_IPV6) {
		u8 header[40];
		if (read_kernel(header, sizeof(header), (const void *)network) || header[6] != UDP)
			return 0;
		__builtin_memcpy(record.local, header + 8, 16);
		__builtin_memcpy(record.remote, header + 24, 16);
		record.family = IPV6;
	} else {
		return 0;
	}
	if (!loopback_told && is_loopback(record.family, record.remote))
		return 0;
	u16 ports[2];
	if (read_kernel(ports, sizeof(ports), (const void *)(head + half(skb, skb_transport_header))))
		return 0;
	record.local_port = swapped(ports[0]);
	record.remote_port = swapped(ports[1]);

	// Who has a port of his own and answers whoever writes to it, serves.
	int given = record.local_port >= ephemeral_first && record.local_port <= ephemeral_last;
	int serves = !half(sk, sock_remote_port) && !given && record.remote_port >= 1024 &&
	             record.remote_port != record.local_port;
	record.what = serves ? IN : OUT;

	struct process process = {};
	struct peer peer = { .pid = current_process() >> 32, .family = record.family, .what = record.what };
	peer.port = serves ? record.local_port : record.remote_port;
	__builtin_memcpy(peer.address, record.remote, 16);
	record.when = now_since_boot();
	if (told_lately(&peer, record.when))
		return 0;
	u64 file = file_of(sk);
	if (holds(file)) {
		this_process(&process);
	} else {
		peer.pid = 0;
		if (told_lately(&peer, record.when))
			return 0;
		process.parent = UNKNOWN;
		process.uid = number(sk, sock_uid);
	}
	if (is_flood(record.when))
		return 0;
	record.kind = RECORD_SOCKET;
	record.pid = process.pid;
	record.parent = process.parent;
	record.uid = process.uid;
	record.forked = process.forked;
	record.socket = sk;
	record.inode = pointer(pointer(file, file_inode), inode_ino);
	record.namespace = number(pointer(sk, sock_net), net_inum);
	record.protocol = UDP;
	if (hand_on_if_room(&record, sizeof(record), LOST_UDP))
		map_update(&peers, &peer, &record.when, 0);
	return 0;
}
