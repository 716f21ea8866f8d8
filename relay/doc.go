// Package relay is framegate's own data plane: it takes the connections of a listener and relays plain calls from connection to
// connection at the level of HTTP/2 frames. Package h2 below it has HTTP/2; relay has the sockets, and decides what becomes of a
// call together with packages handler, resolver and pool.
//
//	client === socket --- h2.Conn --- clientConn ---+                     +--- upstreamConn --- h2.Conn --- socket === endpoint
//	                                                +--- call ------------+    frame by frame ("relayed")
//	                                                +--- call, downstream --- handler.Proxy --- endpointStream ---+ ("handled")
//
// A call is relayed if nothing but its frames is asked for: a route in frame mode without retry and hedge, and no tap. It waits for a
// connection to its endpoint if there is none that has room. Every other call is handled: a goroutine of package handler makes it, and
// sees the streams of both sides through the interfaces of package stream. A relayed call becomes a handled one if the endpoint
// certainly has not processed it (no connection, REFUSED_STREAM, GOAWAY): its request so far is kept until the answer's headers come,
// as far as a new stream takes it at once. Calls of framegate's builtin services go to the Kitex server over a pair of sockets.
//
// Enter at Plane.Conn; then socket.go (reading, writing), shard.go (who works when), client.go and upstream.go (the two kinds of
// connection), begin.go (a request's headers), portion.go and endpoints.go (too many calls), waiting.go (until there is a connection),
// call.go (what passes afterwards), failure.go and localerrors.go (how a call ends with an error of framegate's own), handover.go,
// side.go, downstream.go and endpoint.go (handled calls), timers.go, times.go (max_stream_age and idle_timeout).
//
// # Who works when
//
// A shard has connections of clients, connections to endpoints of its own, and the calls between them; there is one for each
// processor. A goroutine for each connection waits for bytes, takes the shard's lock, reads them and gives them to the h2.Conn, whose
// events make the calls write to other h2.Conns, and writes what all of them have to send before it unlocks: one write for each
// connection and batch, whatever the number of frames and calls. A socket that is full parks a goroutine until it takes bytes
// again; what is for it waits in the streams' queues, and only there. The pool's and the resolver's locks are taken within a
// shard's, and never the other way round; no two shards' locks are held together.
//
// While the listener has max_calls, a client of which a call was refused is read in portions of what there is room for, behind the
// answers that have come (portion.go). Else one read would bring hundreds of calls, of which all but max_calls are refused before any
// answer is worked on: at twice the load that a processor carries, 2 to 36 % of the calls that it carries were still answered, and now
// all of them are.
//
// The connections that a policy allows are divided among the shards. If it allows fewer than there are shards, the calls of those
// that have none are handled, on the connections of another shard.
//
// # Memory
//
// The peer's window of a stream is given back as its DATA moves on, so that a reader which is slow costs at most its stream's
// window; that of a connection is given back on receipt, so that no stream holds up another. What all queues together hold is
// bounded by a budget (limits.max_buffered_bytes): as it fills, windows shrink, and calls whose DATA does not move are ended
// (relief.go). Buffers for reading belong to the shards, not to connections, and those for writing are given back after some seconds
// without traffic, so that an idle connection takes some 5 KiB.
//
// # Speed
//
// What a call costs is mostly the system's calls, so that one of them is for as many frames as there are: all that a read brings is
// worked through before anything is written, and a connection's frames leave in one write. With one processor, HTTP/2 clients with 400
// calls under way have 12 calls a read, and a call costs 4.5 us; clients of grpc-go with 64 under way have 3, and 15 us (HAProxy, in the
// same run: 22 and 30). What keeps the rest small:
//
//   - No goroutine, no allocation: calls are used again (shard.free), and so are the chunks of queues (h2.Memory), which are dropped
//     when nothing needs them any more. TestCalls_Allocate and TestData_Allocate hold that. With fewer spare chunks than calls under
//     way the heap grew from 10 to 50 MB.
//   - A header block that comes again, as those of most calls do, is recognised by its bytes (h2: heads.go). What follows from it was
//     worked out the second time: its fields, whether it is a call of gRPC, what is forwarded. With grpc-timeout in it, it differs from
//     call to call; then the fields alone are shared (hpack.Interner). This and a smaller call took a third off what a call costs in
//     user space.
//   - A short request is kept for another attempt within the call (smallRequest), not in a chunk: a fifth less in user space.
//   - The block of a list of fields that comes again is copied (hpack: recent.go), the stream of the last frame is found without a search,
//     and the time is asked for once a batch: another tenth off.
//   - Observers (metrics, access log) and limits took a third of what a call costs, now a tenth or less: they share the batch's time, a
//     shard has one record for all its calls, which stays in the processor's caches (observed.go), metrics find the series of late calls
//     without a hash, and the lines of the access log that come within a tenth of a second are one write.
//   - The kernel copies what it reads to a place at a whole cache line: at an odd one it took two and a half times as long (27 % of the
//     CPU of a stream of 64 KiB messages, now 9 %).
//   - DATA is copied once, from the read buffer to the other connection's output. The output takes as much as a read brings (256 KiB):
//     with 128 KiB half of it went through the queues. What waits in queues follows when the output is written whole, so that nothing
//     is moved within it. Both together took a tenth off the price of a megabyte.
//   - read and write are raw system calls, since the sockets never block: telling Go's scheduler of each cost a third of a call.
//   - Sockets that are ready at the same time share writes: whoever has read a little lets the others read before it writes what all of
//     that has made (shard.unlockBehind). With 64 calls of grpc-go under way it saved an eighth; with two processors, where a
//     goroutine that yields wakes the other one, it cost a half, and is not done.
//   - Calls that package handler makes share writes as well: the first that has something to write yields, and writes what all have
//     written meanwhile (shard.flushSoon). Struct mode took 6 writes a call without it, and 0.15 with it. Their goroutines are used again
//     (package workers), because one that is new grows its stack several times: a tenth of a call in struct mode.
//
// What was tried and is not here: an epoll of our own (no faster than Go's poller with raw reads); reads of 64 KiB (a quarter slower
// for streams) and of 512 KiB (no faster). What was not: TCP_INQ, which would save the read that finds nothing, one in two, but says
// nothing of a reset that came with the last bytes.
//
// The last profiles, in percent of the CPU:
//
//	                                   kernel   h2   relay   hpack   runtime   cluster, handler, pool
//	unary calls, 400 under way           41     21     16       3        5        7
//	unary calls of grpc-go, 64           59     11     10       3        7        4
//	streams of 64 KiB messages           84      2      2       -       10 (8 of them the one copy)
package relay
