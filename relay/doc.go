// Package relay is framegate's own data plane: it takes the connections of a listener and relays plain calls from connection to
// connection at the level of HTTP/2 frames. Package h2 below it has HTTP/2; relay has the sockets, and decides what becomes of a
// call together with packages handler, resolver and pool.
//
//	client === socket --- h2.Conn --- clientConn ---+                     +--- upstreamConn --- h2.Conn --- socket === endpoint
//	                                                +--- call ------------+    frame by frame ("relayed")
//	                                                +--- call, downstream --- handler.Proxy --- endpointStream ---+ ("handled")
//
// A call is relayed if nothing but its frames is asked for: a route in frame mode without retry and hedge, and no tap. It waits for a connection to its endpoint if there is none that has room. Every other call is handled:
// a goroutine of package handler makes it, and sees the streams of both sides through the interfaces of package stream. A relayed
// call becomes a handled one if the endpoint certainly has not processed it (no connection, REFUSED_STREAM, GOAWAY): its request so
// far is kept until the answer's headers come, as far as a new stream takes it at once. Calls of framegate's builtin services go to
// the Kitex server over a pair of sockets.
//
// Enter at Plane.Conn; then socket.go (reading, writing), shard.go (who works when), client.go and upstream.go (the two kinds of
// connection), begin.go (a request's headers), waiting.go (until there is a connection), call.go (what passes afterwards),
// handover.go, side.go, downstream.go and endpoint.go (handled calls), timers.go, times.go (max_stream_age and idle_timeout).
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
// The connections that a policy allows are divided among the shards. If it allows fewer than there are shards, the calls of those
// that have none are handled, on the connections of another shard.
//
// # Memory
//
// The peer's window of a stream is given back as its DATA moves on, so that a reader which is slow costs at most its stream's
// window; that of a connection is given back on receipt, so that no stream holds up another. What all queues together hold is
// bounded by a budget (limits.max_buffered_bytes): as it fills, windows shrink, and calls whose DATA does not move are ended
// (relief.go). Buffers for reading belong to the shards, not to
// connections, and those for writing are given back after some seconds without traffic, so that an idle connection takes some 5 KiB.
package relay
