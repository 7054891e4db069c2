package clickhouse

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	driver "github.com/ClickHouse/clickhouse-go/v2"
)

// Error is a failure between wattline and ClickHouse, as a sentence without any password.
type Error struct {
	Op   string // the operation: "insert 512 rows into requests"
	Code int32  // ClickHouse's exception code; 0 without an answer
	text string
	kind error // context.Canceled, context.DeadlineExceeded or nil
}

func (e *Error) Error() string { return "clickhouse: " + e.Op + ": " + e.text }

// Unwrap lets errors.Is find the context's error. The driver's error is not exposed: it may contain the DSN.
func (e *Error) Unwrap() error { return e.kind }

// Exception codes with a hint or an explanation.
// Source: src/Common/ErrorCodes.cpp of ClickHouse.
const (
	codeNoSuchColumn     = 16
	codeUnknownIdent     = 47
	codeUnknownTable     = 60
	codeUnknownDatabase  = 81
	codeReadOnly         = 164
	codeUnknownUser      = 192
	codeWrongPassword    = 193
	codeNeedPassword     = 194
	codeMemory           = 241
	codeTableReadOnly    = 242
	codeDiskFull         = 243
	codeTooManyParts     = 252
	codeAccessDenied     = 497
	codeAuthentication   = 516
	codeQuotaExceeded    = 201
	codeTooManyQueries   = 202
	codeKeeper           = 999
	codeUnknownSetting   = 115
	codeNotEnoughReplica = 285
)

// wrap returns err as an *Error, nil for nil.
func (t *Target) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	e := &Error{Op: op}
	for _, kind := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, kind) {
			e.kind = kind
		}
	}
	if exception, ok := errors.AsType[*driver.Exception](err); ok {
		e.Code = exception.Code
		e.text = t.redact(exception.Message)
		if hint := t.hint(exception.Code); hint != "" {
			e.text = hint + " (" + e.text + ")"
		}
		return e
	}
	e.text = t.redact(t.noAnswer(err))
	return e
}

// noAnswer describes a failure of the connection without the URL, which contains every setting.
func (t *Target) noAnswer(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	hosts := strings.Join(t.options.Addr, ", ")
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return fmt.Sprintf("no connection to %s: %v", hosts, op.Err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer from " + hosts + " in time"
	}
	return fmt.Sprintf("no answer from %s: %v", hosts, err)
}

// hint returns advice about an exception, "" without any.
func (t *Target) hint(code int32) string {
	user := t.options.Auth.Username
	switch code {
	case codeAuthentication, codeUnknownUser, codeWrongPassword, codeNeedPassword:
		return fmt.Sprintf("%s refused user %q: check the user in --clickhouse and the password in --clickhouse-password-file or %s",
			strings.Join(t.options.Addr, ", "), user, passwordEnv)
	case codeUnknownTable, codeUnknownDatabase, codeNoSuchColumn, codeUnknownIdent:
		return fmt.Sprintf("database %s lacks something that wattline needs: `wattline ddl --verify` lists it, `wattline ddl --apply` adds it", t.database)
	case codeAccessDenied, codeReadOnly:
		return fmt.Sprintf("user %q may not do this: GRANT SELECT, INSERT ON %s.* (and CREATE, ALTER for `wattline ddl --apply`)", user, name(t.database))
	case codeTooManyParts, codeMemory, codeQuotaExceeded, codeTooManyQueries:
		return "ClickHouse is overloaded and will be tried again, less often"
	case codeDiskFull:
		return "ClickHouse's disk is full: free space there, the rows wait here"
	case codeTableReadOnly, codeKeeper, codeNotEnoughReplica:
		return "ClickHouse's replication has trouble: the rows wait here until it accepts writes"
	case codeUnknownSetting:
		return "this ClickHouse is too old: wattline needs 25.8 or newer"
	}
	return ""
}

// redact removes the password, in every encoding that a message could contain.
func (t *Target) redact(s string) string {
	if t.secret == "" {
		return s
	}
	basic := base64.StdEncoding.EncodeToString([]byte(t.options.Auth.Username + ":" + t.secret))
	for _, form := range []string{basic, url.QueryEscape(t.secret), url.PathEscape(t.secret), url.UserPassword("", t.secret).String()[1:], t.secret} {
		s = strings.ReplaceAll(s, form, "[password]")
	}
	return s
}
