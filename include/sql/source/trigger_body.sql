begin
    perform {added};
    return null;
end
