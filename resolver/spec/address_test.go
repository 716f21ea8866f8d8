package spec

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// An address at which servers listen is none to call: a connection to it ends on this machine, at framegate's own port
// as a rule.
func TestValidateAddress_RefusesWhatIsNoHost(t *testing.T) {
	for _, bad := range []string{
		"0.0.0.0:1", "[::]:1", "[0:0:0:0:0:0:0:0]:1", "[::ffff:0.0.0.0]:1", "[::%lo]:1", ":1",
		"224.0.0.1:1", "[ff02::1]:1", "255.255.255.255:1", "[a:b]:1",
	} {
		require.Error(t, ValidateAddress(bad), bad)
		_, err := ParseInstance([]byte(`{"network":"tcp","address":"` + bad + `"}`))
		require.ErrorContains(t, err, "address: ", "%s", bad)
		_, err = ParseRoute([]byte(`{name: a, match: [{method: "*"}], backends: [{endpoints: [{address: "` + bad + `"}]}]}`))
		require.ErrorContains(t, err, "backends[0].endpoints[0].address: ", "%s", bad)
	}
	for _, good := range []string{"10.0.0.1:1", "[::1]:1", "[fe80::1%eth0]:1", "localhost:1", "[::ffff:10.0.0.1]:1", "echo:1", "unix:/run/a"} {
		require.NoError(t, ValidateAddress(good))
	}
}
