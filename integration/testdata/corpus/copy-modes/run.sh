#!/bin/sh
echo runs > /ran
