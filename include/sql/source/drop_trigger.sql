-- Removes the function of a source, and with it the trigger of its table.
drop function if exists {function}() cascade
