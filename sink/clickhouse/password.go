package clickhouse

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The names of the password's environment variable and systemd credential.
const (
	passwordEnv        = "WATTLINE_CLICKHOUSE_PASSWORD" //nolint:gosec // a name
	passwordCredential = "clickhouse-password"          //nolint:gosec // a name
)

// Password finds ClickHouse's password: in the file, if one is named, else in the environment variable
// WATTLINE_CLICKHOUSE_PASSWORD, else in the systemd credential clickhouse-password. A final line end is
// removed. Without a password anywhere it returns "" and no error.
func Password(file string) (string, error) {
	if file != "" {
		return readPassword(file)
	}
	if p, ok := os.LookupEnv(passwordEnv); ok {
		return p, nil
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		p, err := readPassword(filepath.Join(dir, passwordCredential))
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return p, err
	}
	return "", nil
}

func readPassword(file string) (string, error) {
	b, err := os.ReadFile(file) //nolint:gosec // the user names it
	if err != nil {
		return "", fmt.Errorf("clickhouse: the password file cannot be read: %w", err)
	}
	p := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if p == "" {
		return "", fmt.Errorf("clickhouse: the password file %s is empty", file)
	}
	return p, nil
}
