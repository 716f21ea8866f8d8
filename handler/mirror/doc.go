// Package mirror copies calls to mirrors: backends whose answers nobody waits for, files, topics and indexes.
//
// Enter at Registry.Of, which gives a call the Set of its route's mirrors, and at Mirror.Begin, which makes the Copy of a call;
// then copy.go (what a Copy does with messages), backend.go (a copy that goes to a backend), selection.go (which messages are
// delivered), compare.go and difference.go (answers side by side), outlet.go, record.go and events.go (copies that go to files,
// topics and indexes), and registry.go and mirror.go (what stays when calls and documents go).
//
// A copy never holds up the call: what it has no room for is left out and counted.
package mirror
