package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"log"
	"net"

	"golang.org/x/net/http2"
)

// serve accepts connections and answers every call with one message. It returns when Accept fails.
func serve(ln net.Listener) error {
	for {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer nc.Close()
			if err := answer(nc); err != nil {
				log.Printf("backend: %v", err)
			}
		}()
	}
}

func answer(nc net.Conn) error {
	headers, trailers, body := block(":status", "200", "content-type", "application/grpc"), block("grpc-status", "0"), message()
	r := bufio.NewReaderSize(nc, 64<<10)
	if _, err := r.Discard(len(http2.ClientPreface)); err != nil {
		return err
	}
	out := greeting()
	for {
		if r.Buffered() == 0 && len(out) > 0 {
			if _, err := nc.Write(out); err != nil {
				return err
			}
			out = out[:0]
		}
		h, payload, err := next(r)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		out = append(out, h.ack(payload)...)
		if h.kind == http2.FrameData && h.length > 0 {
			out = appendFrame(out, http2.FrameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(h.length)))
		}
		if h.ended() {
			out = appendFrame(out, http2.FrameHeaders, http2.FlagHeadersEndHeaders, h.stream, headers)
			out = appendFrame(out, http2.FrameData, 0, h.stream, body)
			out = appendFrame(out, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, h.stream, trailers)
		}
	}
}
