#!/bin/sh
echo "#!program for $1"
echo "on $(uname -s)"
