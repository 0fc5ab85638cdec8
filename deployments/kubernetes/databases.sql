-- Run once, when PostgreSQL's volume is empty: a database for each server.
create database oel_prefect;
create database oel_mlflow;
