package local

import (
	"errors"
	"testing"

	"github.com/cloudwego/kitex/pkg/remote/trans/nphttp2/codes"
	"github.com/stretchr/testify/require"
)

// Clients print messages on terminals: what an endpoint, or another client's document, put into one is escaped.
func TestLocalError_HasNothingThatATerminalActsOn(t *testing.T) {
	err := Errorf(codes.Internal, ReasonBadResponseFraming, "response: %v", errors.New("a\x1b[2J\x7f\u009b\u202e\n\xff"))
	require.EqualError(t, err, `framegate: response: a\x1b[2J\x7f\u009b\u202e\n\xff`)
	long := Printable(string(make([]byte, 255)) + "öße")
	require.Equal(t, 255+len("..."), len(long), "cut between characters")
}
