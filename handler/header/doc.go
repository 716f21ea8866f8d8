// Package header is what becomes of the metadata of a call on its way: what concerns one connection only, or a body that is
// changed, is left out; via tells how many framegates a call has passed.
package header
