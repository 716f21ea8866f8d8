// Package limit bounds calls: those under way at once (Concurrency), those begun in a second (Bucket, and Buckets with a
// Bucket for each key), and those that are tried again (Budget). Nothing in it blocks, starts a goroutine or allocates for a
// call: a call over a limit is refused at once.
//
// Each has its file, of its name; rate.go has the arithmetic of buckets.
package limit
