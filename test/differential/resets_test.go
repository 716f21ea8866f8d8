package differential

import (
	"fmt"
	"slices"

	"golang.org/x/net/http2"

	"github.com/framegate/framegate/test/race"
	"github.com/framegate/framegate/test/testbed"
)

// resetCodes are all codes of HTTP/2 and some that are none.
var resetCodes = append(allCodes(), 0xff, 1<<31, 0xfffffffe, 0xffffffff)

func allCodes() (codes []http2.ErrCode) {
	for code := http2.ErrCodeNo; code <= http2.ErrCodeHTTP11Required; code++ {
		codes = append(codes, code)
	}
	return codes
}

// resetScripts are resets from either end with each code of HTTP/2 and some that are none.
func resetScripts() []script {
	m := testbed.Frame([]byte("a message"))
	states := []struct {
		name string
		acts []act
	}{
		{"at the beginning", nil},
		{"after a message", []act{send(m)}},
		{"after the request", []act{ask}},
		{"after headers", []act{ask, accept}},
		{"after headers, before the request", []act{accept}},
		{"after an answer's message", []act{ask, accept, respond}},
		{"amid a stream", []act{send(m), accept, respond, send(m)}},
		{"within a message of the request", []act{send(testbed.Prefix(0, 10))}},
		{"within a message of the answer", []act{ask, accept, reply(testbed.Prefix(0, 10))}},
	}
	codes := race.Choose(resetCodes, []http2.ErrCode{http2.ErrCodeNo, http2.ErrCodeRefusedStream, http2.ErrCodeCancel, http2.ErrCodeEnhanceYourCalm, 0xffffffff})
	var all []script
	for _, st := range states {
		for _, code := range codes {
			all = append(all, script{name: fmt.Sprintf("reset by the client/%s/%s", st.name, code), request: testbed.RequestFields(), acts: append(slices.Clip(st.acts), giveUp(code))})
			if code == http2.ErrCodeRefusedStream && !slices.Contains([]string{"after headers", "after headers, before the request", "after an answer's message", "amid a stream", "within a message of the answer"}, st.name) {
				continue
			}
			all = append(all, script{name: fmt.Sprintf("reset by the server/%s/%s", st.name, code), request: testbed.RequestFields(), acts: append(slices.Clip(st.acts), breakOff(code))})
		}
	}
	return all
}

// codeOfReset is the status that gRPC over HTTP/2 ("Errors") gives to a call that its server has reset.
func codeOfReset(code http2.ErrCode) int {
	switch code {
	case http2.ErrCodeRefusedStream:
		return 14
	case http2.ErrCodeCancel:
		return 1
	case http2.ErrCodeEnhanceYourCalm:
		return 8
	case http2.ErrCodeInadequateSecurity:
		return 7
	}
	return 13
}
