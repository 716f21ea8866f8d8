// Package limit says which calls are too many: of those under way at once (Concurrency), of those begun in a second
// (Bucket, and Buckets with one for each key), and of those that are tried again (Budget). Nothing in it waits, has a
// goroutine or allocates on the path of a call: who is over a limit is told so at once.
package limit
