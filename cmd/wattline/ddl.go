package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"wattline/sink"
	"wattline/sink/clickhouse"
)

// ddlCmd prints, verifies or applies the ClickHouse schema.
type ddlCmd struct {
	Cluster string `help:"Create replicated tables on the shards of this cluster, and distributed tables over them." placeholder:"NAME"`
	Verify  bool   `help:"Compare the database with the schema; print differences, exit code 1 if there are any." xor:"what"`
	Apply   bool   `help:"Create missing tables and columns. Nothing is dropped or rewritten." xor:"what"`

	Clickhouse             string `help:"ClickHouse database: clickhouse://USER@HOST/DATABASE or http://... Without --verify or --apply only its name is used." placeholder:"DSN"`
	ClickhousePasswordFile string `help:"File with the password. Default: ${clickhouse_password}." placeholder:"FILE"`
}

// Run prints the statements, or applies or verifies the schema.
func (c *ddlCmd) Run(a *app, kctx *kong.Context) (err error) {
	layout := clickhouse.Layout{Database: clickhouse.DefaultDatabase, Cluster: c.Cluster}
	if c.Clickhouse == "" {
		if c.Verify || c.Apply {
			return usageError("--verify and --apply need --clickhouse DSN")
		}
		return c.print(a, layout)
	}
	target, err := clickhouseTarget(kctx, c.Clickhouse, c.ClickhousePasswordFile)
	if err != nil {
		return err
	}
	if layout.Database = target.Database(); !c.Verify && !c.Apply {
		return c.print(a, layout)
	}
	client, err := clickhouse.Open(target)
	if err != nil {
		return err
	}
	defer deferClose(client, &err)
	if c.Apply {
		if err := client.Apply(a.ctx, c.Cluster); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(a.stdout, "%s is at schema version %d\n", target, sink.SchemaVersion()); err != nil {
			return err
		}
	}
	return c.verify(a, client)
}

func (c *ddlCmd) print(a *app, l clickhouse.Layout) error {
	_, err := fmt.Fprint(a.stdout, strings.Join(clickhouse.DDL(l), ";\n\n"), ";\n")
	return err
}

// errDiffers makes the command fail after the differences were printed.
var errDiffers = errors.New("the database differs from the schema of this wattline")

func (c *ddlCmd) verify(a *app, client *clickhouse.Client) error {
	findings, err := client.Verify(a.ctx, c.Cluster)
	if err != nil {
		return err
	}
	if len(findings) == 0 {
		_, err := fmt.Fprintf(a.stdout, "%s has every table and column that this wattline needs\n", client.Target())
		return err
	}
	for _, f := range findings {
		if _, err := fmt.Fprintln(a.stdout, f); err != nil {
			return err
		}
	}
	return errDiffers
}

// clickhouseTarget parses a DSN and reads its password. It rejects a password on the command line, because every user
// of the machine can read that.
func clickhouseTarget(kctx *kong.Context, dsn, passwordFile string) (*clickhouse.Target, error) {
	target, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	if target.HasPassword() && onCommandLine(kctx, "clickhouse") {
		return nil, &exitError{exitUsage, clickhouse.ErrPasswordInArguments}
	}
	password, err := clickhouse.Password(passwordFile)
	if err != nil {
		return nil, err
	}
	return target.WithPassword(password), nil
}
