package h2

import (
	"encoding/binary"
	"strconv"
	"strings"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/relay/h2/hpack"
)

// raw returns a frame, well formed or not.
func raw(typ http2.FrameType, flags byte, stream uint32, payload ...byte) []byte {
	return append(appendHeader(nil, len(payload), typ, flags, stream), payload...)
}

func cat(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// times repeats b.
func times(n int, b []byte) []byte { return []byte(strings.Repeat(string(b), n)) }

// field is short for what many tests need.
type field = hpack.Field

func itoa(n uint32) string { return strconv.Itoa(int(n)) }

// be returns the four bytes of a number.
func be(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// fieldList returns fields from "name=value".
func fieldList(texts ...string) (fields []*hpack.Field) {
	for _, t := range texts {
		name, value, _ := strings.Cut(t, "=")
		fields = append(fields, hpack.NewField(name, value, false))
	}
	return fields
}

// encode returns a header block that uses no dynamic table.
func encode(texts ...string) []byte { return hpack.NewEncoder().Append(nil, fieldList(texts...)) }

// heads returns a HEADERS frame with END_HEADERS.
func heads(flags byte, stream uint32, texts ...string) []byte {
	return raw(http2.FrameHeaders, flags|flagEndHeaders, stream, encode(texts...)...)
}

// request returns a request to a path, which tells the recorder what to do, with further fields.
func request(flags byte, stream uint32, path string, more ...string) []byte {
	return heads(flags, stream, append([]string{":method=POST", ":scheme=http", ":path=" + path, ":authority=a"}, more...)...)
}

// answer returns an answer's headers with further fields.
func answer(flags byte, stream uint32, more ...string) []byte {
	return heads(flags, stream, append([]string{":status=200"}, more...)...)
}

func data(flags byte, stream uint32, text string) []byte {
	return raw(http2.FrameData, flags, stream, []byte(text)...)
}

func rst(stream uint32, code http2.ErrCode) []byte { return appendReset(nil, stream, code) }

func update(stream, n uint32) []byte { return appendWindowUpdate(nil, stream, n) }

// settings returns a SETTINGS frame.
func settings(list ...http2.Setting) []byte {
	var p []byte
	for _, s := range list {
		p = appendSetting(p, s.ID, s.Val)
	}
	return raw(http2.FrameSettings, 0, 0, p...)
}

func settingsAck() []byte { return raw(http2.FrameSettings, flagAck, 0) }

func goAway(last uint32, code http2.ErrCode) []byte { return appendGoAway(nil, last, code, "bye") }

// indexingField returns a field with a value of n bytes, at most 126, that goes into the HPACK table (RFC 7541 §6.2.1).
func indexingField(name string, n int) []byte {
	return cat([]byte{0x40, byte(len(name))}, []byte(name), []byte{byte(n)}, times(n, []byte("v")))
}
