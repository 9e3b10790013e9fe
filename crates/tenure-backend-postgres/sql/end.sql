
DROP FUNCTION installed_version();
COMMIT;
