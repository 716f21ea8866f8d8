package hpack

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        Faults
	}{
		{"x-tenant", "blue", 0},
		{"a!#$%&'*+-.^_`|~0", "", 0},
		{":path", "/", 0},
		{":protocol", "websocket", 0},

		{"", "v", EmptyName},
		{"X-Tenant", "v", BadName},
		{"x-tenanT", "v", BadName},
		{"x tenant", "v", BadName},
		{"x:tenant", "v", BadName},
		{"x-tenant:", "v", BadName},
		{"x\x00", "v", BadName},
		{"x\x7f", "v", BadName},
		{"x\r\ny", "v", BadName},
		{"x(y)", "v", BadName},
		{"x\xc3\xa9", "v", BadName},

		{":", "v", UnknownPseudo},
		{":foo", "v", UnknownPseudo},
		{":path-bin", "?", UnknownPseudo},
		{":Path", "/", UnknownPseudo | BadName},
		{"::path", "/", UnknownPseudo | BadName},
		{":pa:th", "/", UnknownPseudo | BadName},

		{"x", "a\x00b", BadValue},
		{"x", "a\rb", BadValue},
		{"x", "a\nb", BadValue},
		{"x", " a", PaddedValue},
		{"x", "a ", PaddedValue},
		{"x", "\ta", PaddedValue},
		{"x", "a\t", PaddedValue},
		{"x", " ", PaddedValue},
		{":path", "/ ", BadValue},
		{"x", "a\tb c", 0},
		{"x", "caf\xc3\xa9 \xff", 0},

		{"x", "a\x01b", ControlValue},
		{"x", "a\x1f", ControlValue},
		{"x", "\x7f", ControlValue},
		{"x", "\x0b\x00", BadValue | ControlValue},

		{"te", "trailers", 0},
		{"te", "", BadTE},
		{"te", "gzip", BadTE},
		{"te", "Trailers", BadTE},
		{"te", "trailers, gzip", BadTE},
		{"te", "trailers ", BadTE | PaddedValue},

		{"x-bin", "", 0},
		{"x-bin", "AAEC", 0},
		{"x-bin", "AA==", 0},
		{"x-bin", "AA", 0},
		{"x-bin", "AAE=", 0},
		{"x-bin", "AAE", 0},
		{"x-bin", "+/+/", 0},
		{"x-bin", "AA==,AAE, AAEC\t,", 0},
		{"-bin", "AA", 0},
		{"grpc-status-details-bin", "CAM", 0},
		{"x-bin", "A", BadBinary},
		{"x-bin", "AAECA", BadBinary},
		{"x-bin", "AA=", BadBinary},
		{"x-bin", "AAE==", BadBinary},
		{"x-bin", "AAEC=", BadBinary},
		{"x-bin", "AAEC==", BadBinary},
		{"x-bin", "AA===", BadBinary},
		{"x-bin", "A===", BadBinary},
		{"x-bin", "=", BadBinary},
		{"x-bin", "==", BadBinary},
		{"x-bin", "====", BadBinary},
		{"x-bin", "AA==AA==", BadBinary},
		{"x-bin", "_-_-", BadBinary},
		{"x-bin", "AA AA", BadBinary},
		{"x-bin", "AA,?", BadBinary},
		{"x-bin", "AAEC\n", BadBinary | BadValue},
		{"grpc-status-details-bin", "!", BadBinary},
		{"X-bin", "!", BadBinary | BadName},
		{"x-bin-", "!", 0},
		{"bin", "!", 0},
	} {
		t.Run(fmt.Sprintf("%q=%q", c.name, c.value), func(t *testing.T) {
			require.Equal(t, c.want, NewField(c.name, c.value, false).Faults)
			require.Equal(t, c.want, NewField(c.name, c.value, true).Faults)
		})
	}
}

func TestFaults_TheStaticTableHasNone(t *testing.T) {
	for i, f := range staticFields[1:] {
		require.Zero(t, f.Faults, f.Name)
		require.Equal(t, staticTable[i+1], [2]string{f.Name, f.Value})
		require.Same(t, f, NewField(f.Name, f.Value, false))
		require.NotSame(t, f, NewField(f.Name, f.Value, true))
	}
}

func TestKind(t *testing.T) {
	for name, want := range map[string]Kind{
		":method": Method, ":scheme": Scheme, ":authority": Authority, ":path": Path, ":status": Status, ":protocol": Protocol,
		"content-type": ContentType, "content-length": ContentLength, "te": TE, "host": Host, "cookie": Cookie,
		"connection": Connection, "proxy-connection": Connection, "keep-alive": Connection, "transfer-encoding": Connection,
		"upgrade": Connection, "http2-settings": Connection,
		"user-agent": UserAgent, "via": Via, "grpc-timeout": GRPCTimeout, "grpc-status": GRPCStatus, "grpc-message": GRPCMessage,
		"grpc-encoding": GRPCEncoding, "grpc-accept-encoding": GRPCAcceptEncoding, "grpc-status-details-bin": GRPCStatusDetails,
		"": Other, ":foo": Other, "x-tenant": Other, "Host": Other, "method": Other,
	} {
		f := NewField(name, "AA", false)
		require.Equal(t, want, f.Kind, name)
		require.Equal(t, name != "" && name[0] == ':' && want != Other, f.Kind.Pseudo(), name)
	}
}

func TestField_Binary(t *testing.T) {
	for name, want := range map[string]bool{
		"x-bin": true, "-bin": true, "grpc-status-details-bin": true, ":x-bin": false, "x-bin-x": false, "bin": false, "": false,
	} {
		require.Equal(t, want, NewField(name, "", false).Binary(), name)
	}
}
